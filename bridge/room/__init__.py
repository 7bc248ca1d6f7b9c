"""The LiveKit room: the seam, the convention (contract 4), and the SDK behind them."""
