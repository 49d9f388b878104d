"""`speed imagenet`: what a sample of an ImageNet-size training takes on one device."""
