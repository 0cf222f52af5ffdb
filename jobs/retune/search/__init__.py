"""The search: engines that propose settings, and the loop that asks, tries and tells."""
