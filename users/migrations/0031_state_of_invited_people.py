from django.db import migrations

# The function has its schema and its settings since it was made, so its stored text is edited.
HERE = "THEN 'not_linked'"
AND_INVITED = """THEN CASE WHEN EXISTS (
                SELECT FROM users_invitation AS sent
                WHERE sent.user_id = users.id AND sent.status = 'pending'
            ) THEN 'invited' ELSE 'not_linked' END"""

DEFINITION = "SELECT pg_get_functiondef('users_refresh_list(uuid[])'::regprocedure)"
# It waits for no entry that a save holds: such a one is due, and the worker refreshes it.
REFRESH = """
SELECT users_refresh_list(array_agg(user_id)) FROM users_listentry
WHERE invitation = 'pending' AND state IN ('not_linked', 'invited')
"""


def replace(before, after):
    def edit(apps, schema_editor):
        with schema_editor.connection.cursor() as cursor:
            cursor.execute(DEFINITION)
            definition = cursor.fetchone()[0]
            if before not in definition:
                raise RuntimeError("The function users_refresh_list was changed by hand.")
            cursor.execute(definition.replace(before, after))
            cursor.execute(REFRESH)

    return edit


class Migration(migrations.Migration):
    """Tell people who are invited to their first account from those whom nobody has invited."""

    dependencies = [("users", "0030_search_by_clerks_values")]

    operations = [
        migrations.RunPython(replace(HERE, AND_INVITED), replace(AND_INVITED, HERE)),
    ]
