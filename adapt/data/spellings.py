"""British spellings of common words with their American ones, for models whose files have no normalizer.json."""

_OUR = """
arm behavi cand clam col demean enamel endeav fav ferv flav glam harb hon hum lab neighb od parl ranc rig rum sav splend
succ tum val vap vig
""".split()
_OUR_ENDINGS = ("", "s", "ed", "ing", "able", "ful", "less", "ite", "ites", "hood", "hoods", "ly", "er", "ers", "al")
_RE = "calib cent fib lit lust met kilomet centimet millimet mit reconnoit sab scept sepulch somb spect theat".split()
_ISE = """
agon apolog author capital categor character civil colon critic emphas energ familiar final general global harmon
hospital ideal legal maxim memor minim mobil modern natural neutral normal optim organ personal popular priorit public
real recogn revolution social special stabil standard steril summar symbol sympath terror utilis visual
""".split()
_ISE_ENDINGS = ("e", "ed", "es", "er", "ers", "ing", "ation", "ations")
_DOUBLE_L = "cancel counsel fuel jewel label level marvel model quarrel signal total travel tunnel".split()
_SINGLES = {
    "aeroplane": "airplane", "aluminium": "aluminum", "analyse": "analyze", "analysed": "analyzed",
    "analysing": "analyzing", "catalogue": "catalog", "catalogues": "catalogs", "cheque": "check", "cheques": "checks",
    "cosy": "cozy", "defence": "defense", "defences": "defenses", "dialogue": "dialog", "enrol": "enroll",
    "fulfil": "fulfill", "grey": "gray", "greys": "grays", "jewellery": "jewelry", "kerb": "curb", "licence": "license",
    "licences": "licenses", "manoeuvre": "maneuver", "moustache": "mustache", "mum": "mom", "offence": "offense",
    "offences": "offenses", "paralyse": "paralyze", "paralysed": "paralyzed", "plough": "plow", "practise": "practice",
    "practised": "practiced", "practising": "practicing", "programme": "program", "programmes": "programs",
    "pyjamas": "pajamas", "sceptical": "skeptical", "skilful": "skillful", "storey": "story", "tyre": "tire",
    "tyres": "tires", "woollen": "woolen",
}  # fmt: skip


def _pairs() -> dict[str, str]:
    found = dict(_SINGLES)
    for stem in _OUR:
        found |= {f"{stem}our{ending}": f"{stem}or{ending}" for ending in _OUR_ENDINGS}
    for stem in _RE:
        found |= {f"{stem}re": f"{stem}er", f"{stem}res": f"{stem}ers"}
    for stem in _ISE:
        found |= {f"{stem}is{ending}": f"{stem}iz{ending}" for ending in _ISE_ENDINGS}
    for stem in _DOUBLE_L:
        for ending in ("ed", "ing", "er", "ers"):
            found[f"{stem}l{ending}"] = f"{stem}{ending}"
    return found


AMERICAN = _pairs()
