"""Studies: many small models trained and asked under equal conditions, from one YAML file."""
