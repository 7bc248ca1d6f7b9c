"""RTP as a pure core: packets, G.711, telephone-events, jitter, clocks, latching, RTCP.

Nothing here reads a clock, opens a socket, logs, or raises because of what a
peer sent; ``rtp.net`` holds the sockets.
"""
