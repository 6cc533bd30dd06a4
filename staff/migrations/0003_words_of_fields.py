import django.db.models.deletion
import django.utils.timezone
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('staff', '0002_keep_authors'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.AlterModelOptions(
            name='provideraccount',
            options={'ordering': ['-created_at', '-pk'], 'verbose_name': 'company account', 'verbose_name_plural': 'company accounts'},
        ),
        migrations.AlterField(
            model_name='provideraccount',
            name='created_at',
            field=models.DateTimeField(default=django.utils.timezone.now, verbose_name='created at'),
        ),
        migrations.AlterField(
            model_name='provideraccount',
            name='email',
            field=models.EmailField(help_text='The email by which the account was bound.', max_length=254, verbose_name='email'),
        ),
        migrations.AlterField(
            model_name='provideraccount',
            name='issuer',
            field=models.CharField(max_length=300, verbose_name='issuer'),
        ),
        migrations.AlterField(
            model_name='provideraccount',
            name='subject',
            field=models.CharField(max_length=255, verbose_name='subject'),
        ),
        migrations.AlterField(
            model_name='provideraccount',
            name='user',
            field=models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='user'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='account',
            field=models.CharField(blank=True, help_text='The username. A username that does not exist is stored as a hash, because people type passwords into that field.', max_length=170, verbose_name='account'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='address',
            field=models.GenericIPAddressField(blank=True, null=True, verbose_name='address'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='at',
            field=models.DateTimeField(db_index=True, default=django.utils.timezone.now, verbose_name='at'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='network',
            field=models.CharField(blank=True, help_text='What the limits count: the address, or its IPv6 /64.', max_length=50, verbose_name='network'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='outcome',
            field=models.CharField(choices=[('pending', 'Not finished'), ('continued', 'Correct, code asked'), ('signed_in', 'Signed in'), ('done', 'Done'), ('refused', 'Refused'), ('limited', 'Limit reached')], default='pending', max_length=20, verbose_name='outcome'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='reason',
            field=models.CharField(blank=True, max_length=200, verbose_name='reason'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='step',
            field=models.CharField(choices=[('password', 'Password'), ('code', 'Code'), ('provider', 'Company account'), ('reset', 'Password reset by mail'), ('change', 'Password change'), ('two_step', 'Two-step sign-in'), ('unlock', 'Unlock')], max_length=20, verbose_name='step'),
        ),
        migrations.AlterField(
            model_name='signinevent',
            name='user',
            field=models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.PROTECT, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='user'),
        ),
    ]
