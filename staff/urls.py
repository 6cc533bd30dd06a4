"""Route the sign-in pages below the admin and the addresses of the company sign-in."""

from django.conf import settings
from django.urls import path

from staff import views

urlpatterns = [
    path("admin/code/", views.CodeView.as_view(), name="staff_code"),
    path("admin/two-step/", views.TwoStepView.as_view(), name="staff_two_step"),
    path("oidc/start/", views.CompanyStartView.as_view(), name="staff_company_start"),
    path("oidc/callback/", views.CompanyCallbackView.as_view(), name="staff_company_callback"),
]
if settings.MAIL_CAN_BE_SENT:  # the login page links to the reset if this route exists
    urlpatterns += [
        path("admin/password_reset/", views.ResetView.as_view(), name="admin_password_reset"),
        path(
            "admin/password_reset/done/",
            views.ResetDoneView.as_view(),
            name="password_reset_done",
        ),
        path(
            "admin/reset/<uidb64>/<token>/",
            views.ResetConfirmView.as_view(),
            name="password_reset_confirm",
        ),
        path(
            "admin/reset/done/",
            views.ResetCompleteView.as_view(),
            name="password_reset_complete",
        ),
    ]
