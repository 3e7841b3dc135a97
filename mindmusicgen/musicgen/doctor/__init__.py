"""Stages of the demo model against golden values, and their speed."""
