from django.db import migrations, models

# Events that were applied keep no payload: their user is not known any more.
FROM_PAYLOAD = """
UPDATE users_webhookdelivery SET clerk_id = named.id
FROM (
    SELECT svix_id, coalesce(payload #>> '{data,user_id}', payload #>> '{data,id}') AS id
    FROM users_webhookdelivery WHERE payload IS NOT NULL
) AS named
WHERE named.svix_id = users_webhookdelivery.svix_id
    AND named.id ~ '^user_[A-Za-z0-9_]+$' AND length(named.id) <= 200
"""


class Migration(migrations.Migration):
    dependencies = [("users", "0026_invitation_for_admins")]

    operations = [
        migrations.AddField(
            model_name="webhookdelivery",
            name="clerk_id",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddIndex(
            model_name="webhookdelivery",
            index=models.Index(fields=["clerk_id"], name="webhookdelivery_user"),
        ),
        migrations.RunSQL(FROM_PAYLOAD, migrations.RunSQL.noop),
    ]
