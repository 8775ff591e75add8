"""Raw folders become datasets: readers, splits, checks, deliveries."""
