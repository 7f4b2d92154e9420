"""Find images and masks in the folders of published datasets."""
