
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('users', '0002_webhooks_and_bulk_runs'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AddField(
            model_name='invitation',
            name='sent_at',
            field=models.DateTimeField(blank=True, null=True, verbose_name='sent'),
        ),
        migrations.AlterField(
            model_name='bulkrow',
            name='operation',
            field=models.CharField(choices=[('create', 'Create'), ('update', 'Edit'), ('delete', 'Delete'), ('push_name', 'Push the name to Clerk'), ('push_email', 'Push the email to Clerk'), ('replace_email', 'Replace email'), ('set_password', 'Set password'), ('ban', 'Ban'), ('unban', 'Unban'), ('unlock', 'Unlock'), ('reset_mfa', 'Reset two-factor sign-in'), ('sign_out', 'Sign out everywhere'), ('link', 'Link'), ('unlink', 'Unlink'), ('invite', 'Invite'), ('create_invited', 'Create and invite'), ('revoke_invitation', 'Revoke invitation'), ('follow', 'Follow a change in Clerk')], max_length=30),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='status',
            field=models.CharField(choices=[('waiting', 'Waiting to be sent'), ('pending', 'Pending'), ('accepted', 'Accepted'), ('revoked', 'Revoked'), ('expired', 'Expired'), ('refused', 'Refused by Clerk')], default='pending', max_length=20),
        ),
        migrations.AlterField(
            model_name='invitation',
            name='updated_at',
            field=models.DateTimeField(auto_now=True, verbose_name='last checked'),
        ),
        migrations.AlterField(
            model_name='syncattempt',
            name='operation',
            field=models.CharField(choices=[('create', 'Create'), ('update', 'Edit'), ('delete', 'Delete'), ('push_name', 'Push the name to Clerk'), ('push_email', 'Push the email to Clerk'), ('replace_email', 'Replace email'), ('set_password', 'Set password'), ('ban', 'Ban'), ('unban', 'Unban'), ('unlock', 'Unlock'), ('reset_mfa', 'Reset two-factor sign-in'), ('sign_out', 'Sign out everywhere'), ('link', 'Link'), ('unlink', 'Unlink'), ('invite', 'Invite'), ('create_invited', 'Create and invite'), ('revoke_invitation', 'Revoke invitation'), ('follow', 'Follow a change in Clerk')], max_length=30),
        ),
        migrations.AddIndex(
            model_name='invitation',
            index=models.Index(fields=['status', 'send_after'], name='invitation_status'),
        ),
        migrations.AddIndex(
            model_name='invitation',
            index=models.Index(fields=['sent_at'], name='invitation_sent_at'),
        ),
    ]
