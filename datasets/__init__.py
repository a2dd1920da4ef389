"""Published data sets, one TFDS builder a folder. Reading one needs tensorflow_datasets alone."""
