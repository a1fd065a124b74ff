"""Phase assemble: filters and scene clustering over analyzed videos."""
