"""The register: owns each citizen's contact info, reservation and choice of mailbox."""
