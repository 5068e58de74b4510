"""What installs where: fresh environments by pip, and what works in them."""
