"""What a run looks like: read from its folder, drawn as plots, a page, a screen."""
