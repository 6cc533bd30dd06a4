from django.db import migrations

# The application before does not set `updated_at`. A statement that sets it keeps its value, as
# Django's saves do; every other change gets the time of the database, later than the one before.
CREATE = """
CREATE FUNCTION users_set_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at THEN
        NEW.updated_at := greatest(
            clock_timestamp(), OLD.updated_at + interval '1 microsecond'
        );
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER users_updated_at BEFORE UPDATE ON users
    FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*)
    EXECUTE FUNCTION users_set_updated_at();
"""

DROP = """
DROP TRIGGER users_updated_at ON users;
DROP FUNCTION users_set_updated_at();
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0004_bulk_rows_outlive_users")]

    operations = [
        migrations.AlterModelOptions(
            name="builderuser",
            options={
                "base_manager_name": "objects",
                "ordering": ["-created_at", "id"],
                "permissions": [
                    ("replace_email", "Can replace the email of a linked user at once"),
                    ("invite", "Can invite people and change emails by invitation"),
                    ("ban", "Can ban and unban in Clerk"),
                    ("unlock", "Can unlock in Clerk"),
                    ("reset_mfa", "Can reset two-factor sign-in"),
                    ("sign_out", "Can sign people out everywhere"),
                    ("link", "Can link to and unlink from a Clerk account"),
                ],
            },
        ),
        migrations.RunSQL(CREATE, DROP, hints={"model_name": "builderuser"}),
    ]
