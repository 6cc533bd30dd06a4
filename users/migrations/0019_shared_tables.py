import uuid

import django.contrib.postgres.functions
import django.db.models.functions.text
from django.db import migrations, models

# The other application may insert without an id or a role, and may delete users that we know.
NO_FOREIGN_KEYS = r"""
DO $$
DECLARE found record;
BEGIN
    FOR found IN
        SELECT conrelid::regclass AS referring, conname FROM pg_constraint
        WHERE confrelid = 'users'::regclass AND contype = 'f'
            AND conrelid::regclass::text LIKE 'users\_%'
    LOOP
        EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', found.referring, found.conname);
    END LOOP;
END
$$
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0018_user_list")]

    operations = [
        migrations.AlterField(
            model_name="buildergroup",
            name="id",
            field=models.UUIDField(
                db_default=django.contrib.postgres.functions.RandomUUID(),
                default=uuid.uuid4,
                editable=False,
                primary_key=True,
                serialize=False,
            ),
        ),
        migrations.AlterField(
            model_name="builderuser",
            name="id",
            field=models.UUIDField(
                db_default=django.contrib.postgres.functions.RandomUUID(),
                default=uuid.uuid4,
                editable=False,
                primary_key=True,
                serialize=False,
            ),
        ),
        migrations.AlterField(
            model_name="builderuser",
            name="role",
            field=models.CharField(
                choices=[("ADMIN", "Admin"), ("HOMEOWNER", "Homeowner"), ("BUILDER", "Builder")],
                db_default="BUILDER",
                default="BUILDER",
                max_length=20,
            ),
        ),
        migrations.RunSQL(NO_FOREIGN_KEYS, migrations.RunSQL.noop),
        migrations.RunSQL(
            "ALTER INDEX users_email_unique RENAME TO users_email_lower_unique",
            "ALTER INDEX users_email_lower_unique RENAME TO users_email_unique",
            state_operations=[
                migrations.RemoveConstraint(model_name="builderuser", name="users_email_unique"),
                migrations.AddConstraint(
                    model_name="builderuser",
                    constraint=models.UniqueConstraint(
                        django.db.models.functions.text.Lower("email"),
                        name="users_email_lower_unique",
                        violation_error_message="Another builder user has this email.",
                    ),
                ),
            ],
            hints={"model_name": "builderuser"},
        ),
    ]
