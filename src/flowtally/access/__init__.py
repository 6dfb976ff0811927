"""Who may come in: tokens and certificates, from files that are read anew when they change."""
