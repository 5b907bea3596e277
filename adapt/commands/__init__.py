"""The commands of `innertune`, one module each with `main(cfg)`: build, check, call the library, save, report."""
