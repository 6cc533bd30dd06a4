from django.contrib.admin import AdminSite


class CascadeAdminSite(AdminSite):
    site_title = "Cascade"
    site_header = "Cascade"
    index_title = "Builder users and their sign-in"
