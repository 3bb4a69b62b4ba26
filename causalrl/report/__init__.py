"""Reports: pictures and pages of results; nothing here computes a statistic."""
