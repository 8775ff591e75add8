"""Everything outside the process: folders, the data store (DVC), the model registry (MLflow), the trainer."""
