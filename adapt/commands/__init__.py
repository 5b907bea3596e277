"""The commands of `innertune`, one module each: its `main(cfg)` builds, calls the library, saves and reports."""
