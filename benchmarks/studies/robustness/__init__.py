"""Accuracy under attack of networks trained in different ways."""
