"""The register's one database: PostgreSQL. Rows stop here; what leaves is a Person."""
