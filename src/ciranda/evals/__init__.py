"""What "good" means: scorers say it of one answer, suites of many, compare of two versions. The same scorers judge live traffic."""
