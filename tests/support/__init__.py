"""What several tests share: commands, adapted models, results made by hand."""
