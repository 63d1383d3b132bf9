"""The register's own command line."""
