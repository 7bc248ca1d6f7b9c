"""What differs between carriers, as data; numbers, routes and admission. Pure."""
