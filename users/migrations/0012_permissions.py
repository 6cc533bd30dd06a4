"""New permissions, and the groups of staff with theirs. What existing staff hold stays as it is:
who set passwords, changed roles or made accounts needs the new permissions for it."""

from django.contrib.auth.management import create_permissions
from django.db import migrations

VIEWER = ["view_builderuser", "view_buildergroup", "view_invitation", "view_syncattempt"]
EDITOR = [
    *VIEWER, "add_builderuser", "change_builderuser", "add_buildergroup", "change_buildergroup",
]
SUPPORT = [*EDITOR, "invite", "unlock", "sign_out", "reset_mfa"]
MANAGER = [
    *SUPPORT, "set_password", "replace_email", "create_account", "change_role", "ban", "link",
    "delete_builderuser", "delete_buildergroup", "view_clerkaccount",
]
ENGINEER = [
    *VIEWER, "view_clerkaccount", "view_bulkrun", "view_bulkrow", "view_webhookdelivery",
    "replay_webhook",
]
GROUPS = {
    "Viewer": VIEWER, "Editor": EDITOR, "Support": SUPPORT, "Manager": MANAGER,
    "Engineer": ENGINEER,
}


def make_groups(apps, schema_editor):
    """Add to the groups, where some have these names already."""
    using = schema_editor.connection.alias
    app = apps.get_app_config("users")
    app.models_module = True  # else Django makes no permissions before the end of all migrations
    create_permissions(app, verbosity=0, using=using, apps=apps)
    app.models_module = None
    Group = apps.get_model("auth", "Group")
    Permission = apps.get_model("auth", "Permission")
    for name, codenames in GROUPS.items():
        group, _ = Group.objects.using(using).get_or_create(name=name)
        group.permissions.add(
            *Permission.objects.using(using).filter(
                content_type__app_label="users", codename__in=codenames
            )
        )


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0011_bulk_rows_keep_their_user'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='builderuser',
            options={'base_manager_name': 'objects', 'ordering': ['-created_at', 'id'], 'permissions': [('replace_email', 'Can replace the email of a linked user at once'), ('invite', 'Can invite people and change emails by invitation'), ('ban', 'Can ban and unban in Clerk'), ('unlock', 'Can unlock in Clerk'), ('reset_mfa', 'Can reset two-factor sign-in'), ('sign_out', 'Can sign people out everywhere'), ('link', 'Can link to and unlink from a Clerk account'), ('set_password', 'Can set passwords'), ('create_account', 'Can create Clerk accounts without an invitation'), ('change_role', 'Can change roles'), ('manage_admins', 'Can manage the sign-in and role of users with the role Admin')]},
        ),
        migrations.AlterModelOptions(
            name='webhookdelivery',
            options={'ordering': ['-received_at'], 'permissions': [('replay_webhook', 'Can replay webhook deliveries')], 'verbose_name': 'webhook delivery', 'verbose_name_plural': 'webhook deliveries'},
        ),
        migrations.RunPython(make_groups, migrations.RunPython.noop, elidable=False),
    ]
