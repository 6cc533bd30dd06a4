"""The Django project: settings, database backend, middleware and the admin site."""
