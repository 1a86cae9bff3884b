"""temp"""
def render_campaign(board, judged, settings, replays, picture):
    return "x"
