from django.db import migrations

# Planning took three quarters of a refresh, because PostgreSQL planned for each array of ids anew.
# The plan does not depend on them: all tables are read by index.
ALTER = "ALTER FUNCTION users_refresh_list(uuid[]) {} plan_cache_mode"


class Migration(migrations.Migration):
    dependencies = [("users", "0019_shared_tables")]

    operations = [
        migrations.RunSQL(f"{ALTER.format('SET')} = force_generic_plan", ALTER.format("RESET"))
    ]
