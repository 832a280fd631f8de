"""The shared view: what each PoP publishes, and who may leave. Hands out permits; decides nothing about health."""
