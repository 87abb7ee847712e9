"""An authorization server by django-oauth-toolkit, for the interop tests. ../../README.md describes it."""
