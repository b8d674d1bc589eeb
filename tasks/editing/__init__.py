"""Memory editing: what is still right after a fact was changed, withdrawn, or one of many."""
