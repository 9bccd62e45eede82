"""Who may (`access`), what may pass (`guard`), what happened (`audit`)."""
