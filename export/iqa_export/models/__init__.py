"""The networks as their authors wrote them, and the blocks they share."""
