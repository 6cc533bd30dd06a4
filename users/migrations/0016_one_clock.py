from django.db import migrations, models
from django.db.models.functions import Now


class Migration(migrations.Migration):
    """Date rows and attempts by the database's clock, as decisions are."""

    dependencies = [("users", "0015_keep_authors")]

    operations = [
        migrations.AlterField(
            model_name="builderuser",
            name="created_at",
            field=models.DateTimeField(db_default=Now(), editable=False),
        ),
        migrations.AlterField(
            model_name="syncattempt",
            name="started_at",
            field=models.DateTimeField(db_default=Now(), editable=False),
        ),
    ]
