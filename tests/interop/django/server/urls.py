"""What is served where."""

from django.urls import include, path
from oauth2_provider import urls as toolkit

from . import views

served = [*toolkit.base_urlpatterns, *toolkit.metadata_urlpatterns]
urlpatterns = [
    path("", include((served, toolkit.app_name))),
    path("resource", views.resource),
    path("control/<str:command>", views.control),
]
