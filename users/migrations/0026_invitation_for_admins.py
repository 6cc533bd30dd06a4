from django.db import migrations, models
from django.db.models import Q


def allow_those_of_managers(apps, schema_editor):
    """Let invitations that were sent already link administrators if their authors could.

    What the authors were allowed then was not stored, so what they are allowed now counts.
    """
    holders = Q(codename="manage_admins", content_type__app_label="users")
    permissions = apps.get_model("auth", "Permission").objects.filter(holders)
    given = Q(user_permissions__in=permissions) | Q(groups__permissions__in=permissions)
    managers = apps.get_model("auth", "User").objects.filter(
        Q(username="cascade") | Q(is_active=True) & (Q(is_superuser=True) | given)
    )
    apps.get_model("users", "Invitation").objects.filter(
        Q(invited_by=None) | Q(source__in=["command", "task"]) | Q(invited_by__in=managers)
    ).update(for_admins=True)


class Migration(migrations.Migration):

    dependencies = [
        ('auth', '0012_alter_user_first_name_max_length'),
        ('users', '0025_invitations_that_wait_already'),
    ]

    operations = [
        migrations.AddField(
            model_name='invitation',
            name='for_admins',
            field=models.BooleanField(db_default=False, default=False, editable=False),
        ),
        migrations.RunPython(allow_those_of_managers, migrations.RunPython.noop),
    ]
