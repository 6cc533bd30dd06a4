from django.db import migrations

# The function has its schema and its settings since it was made, so its stored text is edited.
HERE = "concat_ws(' ', '', name_key, email_key, group_key, lower(users.clerk_id)),"
AND_IN_CLERK = """concat_ws(' ', '', name_key, email_key, group_key, lower(users.clerk_id),
            CASE WHEN users_name_differs(users.name, concat(first_name, ' ', last_name))
                THEN users_search_key(concat(first_name, ' ', last_name)) END,
            CASE WHEN users_email_differs(users.email, account.email)
                THEN users_search_key(account.email) END),"""

DEFINITION = "SELECT pg_get_functiondef('users_refresh_list(uuid[])'::regprocedure)"
REFRESH = """
SELECT users_refresh_list(array_agg(user_id)) FROM users_listentry
WHERE state NOT IN ('in_step', 'not_linked', 'unseen')
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
    """Let the list find a user by the name or email that only Clerk has."""

    dependencies = [("users", "0029_words_of_sources")]

    operations = [
        migrations.RunPython(replace(HERE, AND_IN_CLERK), replace(AND_IN_CLERK, HERE)),
    ]
