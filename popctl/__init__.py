"""popctl: keeps an anycast VPN honest."""
