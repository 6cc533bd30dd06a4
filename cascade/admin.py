from django.contrib.admin import AdminSite


class CascadeAdminSite(AdminSite):
    site_title = "Cascade"
    site_header = "Cascade"
    enable_nav_sidebar = False  # the list needs the width
    index_title = "Builder users and their sign-in"
