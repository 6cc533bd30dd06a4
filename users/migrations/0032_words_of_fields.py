import django.db.models.deletion
import django.db.models.functions.datetime
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0031_state_of_invited_people'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='agreement',
            options={'verbose_name': 'agreement', 'verbose_name_plural': 'agreements'},
        ),
        migrations.AlterModelOptions(
            name='buildergroup',
            options={'ordering': ['name', 'id'], 'verbose_name': 'builder group', 'verbose_name_plural': 'builder groups'},
        ),
        migrations.AlterModelOptions(
            name='builderuser',
            options={'base_manager_name': 'objects', 'ordering': ['-created_at', 'id'], 'permissions': [('replace_email', 'Can replace the email of a linked user at once'), ('invite', 'Can invite people and change emails by invitation'), ('ban', 'Can ban and unban in Clerk'), ('unlock', 'Can unlock in Clerk'), ('reset_mfa', 'Can reset two-factor sign-in'), ('sign_out', 'Can sign people out everywhere'), ('link', 'Can link to and unlink from a Clerk account'), ('set_password', 'Can set passwords'), ('create_account', 'Can create Clerk accounts without an invitation'), ('change_role', 'Can change roles'), ('manage_admins', 'Can manage the sign-in and role of users with the role Admin')], 'verbose_name': 'builder user', 'verbose_name_plural': 'builder users'},
        ),
        migrations.AlterModelOptions(
            name='bulkrun',
            options={'ordering': ['-id'], 'verbose_name': 'bulk run', 'verbose_name_plural': 'bulk runs'},
        ),
        migrations.AlterModelOptions(
            name='clerkaccount',
            options={'verbose_name': 'Clerk account', 'verbose_name_plural': 'Clerk accounts'},
        ),
        migrations.AlterModelOptions(
            name='invitation',
            options={'ordering': ['-id'], 'verbose_name': 'invitation', 'verbose_name_plural': 'invitations'},
        ),
        migrations.AlterModelOptions(
            name='syncattempt',
            options={'ordering': ['-id'], 'verbose_name': 'change', 'verbose_name_plural': 'changes'},
        ),
        migrations.AlterModelOptions(
            name='webhookrefusal',
            options={'verbose_name': 'refused webhook', 'verbose_name_plural': 'refused webhooks'},
        ),
        migrations.AlterField(
            model_name='agreement',
            name='email_version',
            field=models.TextField(blank=True, db_default='', default='', editable=False, verbose_name='email version'),
        ),
        migrations.AlterField(
            model_name='agreement',
            name='linked_by',
            field=models.CharField(blank=True, choices=[('staff', 'a staff member'), ('invitation', 'an accepted invitation'), ('inherited', 'another application, or before this was recorded'), ('address', 'its email')], default='', max_length=20, verbose_name='linked by'),
        ),
        migrations.AlterField(
            model_name='agreement',
            name='name_version',
            field=models.TextField(blank=True, db_default='', default='', editable=False, verbose_name='name version'),
        ),
        migrations.AlterField(
            model_name='buildergroup',
            name='created_at',
            field=models.DateTimeField(auto_now_add=True, db_default=django.db.models.functions.datetime.Now(), verbose_name='created at'),
        ),
        migrations.AlterField(
            model_name='buildergroup',
            name='email',
            field=models.EmailField(blank=True, max_length=254, null=True, verbose_name='email'),
        ),
        migrations.AlterField(
            model_name='buildergroup',
            name='enrollment_slug',
            field=models.SlugField(blank=True, max_length=200, null=True, unique=True, verbose_name='enrollment slug'),
        ),
        migrations.AlterField(
            model_name='buildergroup',
            name='name',
            field=models.TextField(verbose_name='name'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='builder_group',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='users', to='users.buildergroup', verbose_name='builder group'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='created_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name='created at'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='email',
            field=models.EmailField(max_length=254, verbose_name='email'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='internal_role',
            field=models.CharField(blank=True, choices=[('Administrator', 'Administrator'), ('Employee', 'Employee')], help_text='Only for the role Admin.', max_length=50, null=True, verbose_name='internal role'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='name',
            field=models.CharField(max_length=200, verbose_name='name'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='role',
            field=models.CharField(choices=[('ADMIN', 'Admin'), ('HOMEOWNER', 'Homeowner'), ('BUILDER', 'Builder')], db_default='BUILDER', default='BUILDER', max_length=20, verbose_name='role'),
        ),
        migrations.AlterField(
            model_name='builderuser',
            name='updated_at',
            field=models.DateTimeField(auto_now=True, db_default=django.db.models.functions.datetime.Now(), verbose_name='updated at'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='attempt',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='users.syncattempt', verbose_name='attempt'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='changes',
            field=models.JSONField(default=dict, verbose_name='changes'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='clerk_id',
            field=models.TextField(blank=True, default='', verbose_name='clerk id'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='label',
            field=models.TextField(blank=True, default='', verbose_name='label'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='line',
            field=models.PositiveIntegerField(blank=True, null=True, verbose_name='line'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='operation',
            field=models.CharField(choices=[('create', 'Create'), ('update', 'Edit'), ('delete', 'Delete'), ('push_name', 'Copy the name to Clerk'), ('push_email', 'Copy the email to Clerk'), ('replace_email', 'Replace email'), ('set_password', 'Set password'), ('ban', 'Ban'), ('unban', 'Unban'), ('unlock', 'Unlock'), ('reset_mfa', 'Reset two-factor sign-in'), ('sign_out', 'Sign out everywhere'), ('end_session', 'Sign out one device'), ('create_account', 'Create the Clerk account'), ('link', 'Link'), ('unlink', 'Unlink'), ('invite', 'Invite'), ('create_invited', 'Create and invite'), ('revoke_invitation', 'Revoke invitation'), ('follow', 'Copy from Clerk'), ('merge_metadata', 'Change metadata'), ('refresh', 'Refresh')], max_length=30, verbose_name='operation'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='position',
            field=models.PositiveIntegerField(verbose_name='position'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='reason',
            field=models.TextField(blank=True, default='', verbose_name='reason'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rows', to='users.bulkrun', verbose_name='run'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='state',
            field=models.CharField(choices=[('waiting', 'Waiting'), ('done', 'Done'), ('skipped', 'Skipped'), ('failed', 'Failed')], default='waiting', max_length=20, verbose_name='state'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='user',
            field=models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.DO_NOTHING, related_name='+', to='users.builderuser', verbose_name='user'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='actor',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='actor'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='command',
            field=models.TextField(verbose_name='command'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='finished_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='finished at'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='message',
            field=models.TextField(blank=True, default='', verbose_name='message'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='notes',
            field=models.JSONField(blank=True, db_default=models.Value([], models.JSONField()), default=list, verbose_name='notes'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='options',
            field=models.JSONField(blank=True, default=dict, verbose_name='options'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='plan_hash',
            field=models.TextField(blank=True, default='', verbose_name='plan hash'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='requested',
            field=models.CharField(blank=True, choices=[('pause', 'Pause'), ('cancel', 'Cancel')], db_default='', default='', max_length=20, verbose_name='requested'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='source',
            field=models.CharField(choices=[('admin', 'This site'), ('command', 'Command'), ('webhook', 'Clerk event'), ('task', 'Scheduled task'), ('api', 'Front end')], db_default='command', default='command', editable=False, max_length=20, verbose_name='source'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='started_at',
            field=models.DateTimeField(auto_now_add=True, verbose_name='started at'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='state',
            field=models.CharField(choices=[('planned', 'Planned, not started'), ('queued', 'Waiting for the worker'), ('running', 'Running'), ('paused', 'Paused'), ('finished', 'Finished'), ('stopped', 'Stopped'), ('interrupted', 'Interrupted'), ('cancelled', 'Cancelled')], default='running', max_length=20, verbose_name='state'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='summary',
            field=models.TextField(blank=True, db_default='', default='', verbose_name='summary'),
        ),
        migrations.AlterField(
            model_name='bulkrun',
            name='undo_of',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='undone_by', to='users.bulkrun', verbose_name='undo of'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='banned',
            field=models.BooleanField(default=False, verbose_name='banned'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='email',
            field=models.TextField(blank=True, default='', verbose_name='email'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='email_verified',
            field=models.BooleanField(default=False, verbose_name='email verified'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='first_name',
            field=models.TextField(blank=True, default='', verbose_name='first name'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='image_url',
            field=models.TextField(blank=True, default='', verbose_name='image url'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='known_email_version',
            field=models.TextField(blank=True, db_default='', editable=False, verbose_name='known email version'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='known_name_version',
            field=models.TextField(blank=True, db_default='', editable=False, verbose_name='known name version'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='last_name',
            field=models.TextField(blank=True, default='', verbose_name='last name'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='locked',
            field=models.BooleanField(default=False, verbose_name='locked'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='reference_version',
            field=models.TextField(blank=True, db_default='', editable=False, verbose_name='reference version'),
        ),
        migrations.AlterField(
            model_name='clerkaccount',
            name='version',
            field=models.TextField(blank=True, db_default='', default='', editable=False, verbose_name='version'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='created_at',
            field=models.DateTimeField(auto_now_add=True, verbose_name='created at'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='email',
            field=models.EmailField(max_length=254, verbose_name='email'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='expires_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='expires at'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='for_admins',
            field=models.BooleanField(db_default=False, default=False, editable=False, verbose_name='for admins'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='invited_by',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='invited by'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='purpose',
            field=models.CharField(choices=[('new_account', 'New account'), ('email_change', 'Change of email')], max_length=20, verbose_name='purpose'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='reference',
            field=models.UUIDField(default=uuid.uuid4, editable=False, unique=True, verbose_name='reference'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='source',
            field=models.CharField(choices=[('admin', 'This site'), ('command', 'Command'), ('webhook', 'Clerk event'), ('task', 'Scheduled task'), ('api', 'Front end')], db_default='admin', default='admin', editable=False, max_length=20, verbose_name='source'),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='status',
            field=models.CharField(choices=[('waiting', 'Waiting to be sent'), ('pending', 'Pending'), ('accepted', 'Accepted'), ('revoked', 'Revoked'), ('expired', 'Expired'), ('refused', 'Refused')], default='pending', max_length=20, verbose_name='status'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='actor',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='actor'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='changes',
            field=models.JSONField(default=dict, verbose_name='changes'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='details',
            field=models.JSONField(blank=True, default=dict, verbose_name='details'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='error_code',
            field=models.TextField(blank=True, default='', verbose_name='error code'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='message',
            field=models.TextField(blank=True, default='', verbose_name='message'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='operation',
            field=models.CharField(choices=[('create', 'Create'), ('update', 'Edit'), ('delete', 'Delete'), ('push_name', 'Copy the name to Clerk'), ('push_email', 'Copy the email to Clerk'), ('replace_email', 'Replace email'), ('set_password', 'Set password'), ('ban', 'Ban'), ('unban', 'Unban'), ('unlock', 'Unlock'), ('reset_mfa', 'Reset two-factor sign-in'), ('sign_out', 'Sign out everywhere'), ('end_session', 'Sign out one device'), ('create_account', 'Create the Clerk account'), ('link', 'Link'), ('unlink', 'Unlink'), ('invite', 'Invite'), ('create_invited', 'Create and invite'), ('revoke_invitation', 'Revoke invitation'), ('follow', 'Copy from Clerk'), ('merge_metadata', 'Change metadata'), ('refresh', 'Refresh')], max_length=30, verbose_name='operation'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='settled_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='settled at'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='source',
            field=models.CharField(choices=[('admin', 'This site'), ('command', 'Command'), ('webhook', 'Clerk event'), ('task', 'Scheduled task'), ('api', 'Front end')], max_length=20, verbose_name='source'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='started_at',
            field=models.DateTimeField(db_default=django.db.models.functions.datetime.Now(), editable=False, verbose_name='started at'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='status',
            field=models.CharField(choices=[('started', 'Waiting for Clerk'), ('applied', 'Saved'), ('refused', 'Refused'), ('dropped', 'Not saved'), ('unproven', 'Not certain')], default='started', max_length=20, verbose_name='status'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='attempts',
            field=models.PositiveIntegerField(default=0, verbose_name='attempts'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='clerk_id',
            field=models.TextField(blank=True, db_default='', default='', verbose_name='clerk id'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='error',
            field=models.TextField(blank=True, default='', verbose_name='error'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='payload',
            field=models.JSONField(blank=True, null=True, verbose_name='payload'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='processed_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='processed at'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='received_at',
            field=models.DateTimeField(auto_now_add=True, verbose_name='received at'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='svix_id',
            field=models.TextField(primary_key=True, serialize=False, verbose_name='svix id'),
        ),
        migrations.AlterField(
            model_name='webhookdelivery',
            name='type',
            field=models.TextField(verbose_name='type'),
        ),
        migrations.AlterField(
            model_name='webhookrefusal',
            name='reason',
            field=models.TextField(verbose_name='reason'),
        ),
        migrations.AlterField(
            model_name='webhookrefusal',
            name='refused_at',
            field=models.DateTimeField(verbose_name='refused at'),
        ),
        migrations.AlterField(
            model_name='webhookrefusal',
            name='signed',
            field=models.BooleanField(primary_key=True, serialize=False, verbose_name='signed'),
        ),
    ]
