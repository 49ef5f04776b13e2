"""The jobs over whole tables: reduce, summarize, export, restore."""
