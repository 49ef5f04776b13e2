"""Work over whole tables: reduce, summarize, export, restore."""
