
import django.db.models.deletion
import uuid
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0001_initial'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='BulkRow',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('position', models.PositiveIntegerField()),
                ('line', models.PositiveIntegerField(blank=True, null=True)),
                ('label', models.TextField(blank=True, default='')),
                ('clerk_id', models.TextField(blank=True, default='')),
                ('operation', models.CharField(choices=[('create', 'Create'), ('update', 'Edit'), ('delete', 'Delete'), ('push_name', 'Push the name to Clerk'), ('push_email', 'Push the email to Clerk'), ('replace_email', 'Replace email'), ('set_password', 'Set password'), ('ban', 'Ban'), ('unban', 'Unban'), ('unlock', 'Unlock'), ('reset_mfa', 'Reset two-factor sign-in'), ('sign_out', 'Sign out everywhere'), ('link', 'Link'), ('unlink', 'Unlink'), ('invite', 'Invite'), ('revoke_invitation', 'Revoke invitation'), ('follow', 'Follow a change in Clerk')], max_length=30)),
                ('changes', models.JSONField(default=dict)),
                ('state', models.CharField(choices=[('waiting', 'Waiting'), ('done', 'Done'), ('skipped', 'Skipped'), ('failed', 'Failed')], default='waiting', max_length=20)),
                ('reason', models.TextField(blank=True, default='')),
            ],
            options={
                'verbose_name': 'row of a bulk run',
                'verbose_name_plural': 'rows of bulk runs',
                'ordering': ['run', 'position'],
            },
        ),
        migrations.CreateModel(
            name='BulkRun',
            fields=[
                ('id', models.BigAutoField(primary_key=True, serialize=False)),
                ('command', models.TextField()),
                ('options', models.JSONField(blank=True, default=dict)),
                ('plan_hash', models.TextField(blank=True, default='')),
                ('state', models.CharField(choices=[('running', 'Running'), ('finished', 'Finished'), ('stopped', 'Stopped by a brake'), ('interrupted', 'Interrupted')], default='running', max_length=20)),
                ('message', models.TextField(blank=True, default='')),
                ('started_at', models.DateTimeField(auto_now_add=True)),
                ('finished_at', models.DateTimeField(blank=True, null=True)),
            ],
            options={
                'verbose_name': 'bulk run',
                'ordering': ['-id'],
            },
        ),
        migrations.AddField(
            model_name='clerkaccount',
            name='ban_due',
            field=models.BooleanField(db_default=False, default=False, verbose_name='still to be banned'),
        ),
        migrations.AddField(
            model_name='clerkaccount',
            name='claimed_id',
            field=models.UUIDField(blank=True, null=True, verbose_name='our id in its metadata'),
        ),
        migrations.AddField(
            model_name='clerkaccount',
            name='note',
            field=models.TextField(blank=True, db_default='', default='', verbose_name='why it is not linked, or does not match'),
        ),
        migrations.AddField(
            model_name='clerkaccount',
            name='released_at',
            field=models.DateTimeField(blank=True, help_text='Unlinked by staff or replaced by another account: never linked by itself again.', null=True, verbose_name='let go'),
        ),
        migrations.AddField(
            model_name='clerkaccount',
            name='replaced_for',
            field=models.ForeignKey(blank=True, db_constraint=False, help_text='The user whose new account replaced this one after an accepted invitation.', null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='replaced_accounts', to='users.builderuser', verbose_name='replaced for'),
        ),
        migrations.AddField(
            model_name='invitation',
            name='reference',
            field=models.UUIDField(default=uuid.uuid4, editable=False, unique=True),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='operation',
            field=models.CharField(choices=[('create', 'Create'), ('update', 'Edit'), ('delete', 'Delete'), ('push_name', 'Push the name to Clerk'), ('push_email', 'Push the email to Clerk'), ('replace_email', 'Replace email'), ('set_password', 'Set password'), ('ban', 'Ban'), ('unban', 'Unban'), ('unlock', 'Unlock'), ('reset_mfa', 'Reset two-factor sign-in'), ('sign_out', 'Sign out everywhere'), ('link', 'Link'), ('unlink', 'Unlink'), ('invite', 'Invite'), ('revoke_invitation', 'Revoke invitation'), ('follow', 'Follow a change in Clerk')], max_length=30),
        ),
        migrations.AddIndex(
            model_name='clerkaccount',
            index=models.Index(condition=models.Q(('ban_due', True)), fields=['clerk_id'], name='clerkaccount_ban_due'),
        ),
        migrations.AddField(
            model_name='bulkrow',
            name='attempt',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='users.syncattempt'),
        ),
        migrations.AddField(
            model_name='bulkrow',
            name='user',
            field=models.ForeignKey(blank=True, db_constraint=False, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to='users.builderuser'),
        ),
        migrations.AddField(
            model_name='bulkrun',
            name='actor',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='+', to=settings.AUTH_USER_MODEL),
        ),
        migrations.AddField(
            model_name='bulkrun',
            name='undo_of',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='undone_by', to='users.bulkrun'),
        ),
        migrations.AddField(
            model_name='bulkrow',
            name='run',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='rows', to='users.bulkrun'),
        ),
        migrations.AddField(
            model_name='syncattempt',
            name='run',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.SET_NULL, related_name='attempts', to='users.bulkrun', verbose_name='bulk run'),
        ),
        migrations.AddIndex(
            model_name='bulkrow',
            index=models.Index(condition=models.Q(('state', 'waiting')), fields=['run', 'position'], name='bulkrow_waiting'),
        ),
        migrations.AddConstraint(
            model_name='bulkrow',
            constraint=models.UniqueConstraint(fields=('run', 'position'), name='bulkrow_position'),
        ),
    ]
