"""British spellings of common words with their American ones, for models whose files have no normalizer.json."""

_WORDS = {
    "our": "armour behaviour candour clamour colour demeanour endeavour favour fervour flavour glamour harbour "
    "honour humour labour neighbour odour parlour rancour rigour rumour saviour splendour tumour valour vapour",
    "re": "calibre centre fibre kilometre centimetre litre lustre metre millimetre mitre sabre sceptre sombre "
    "spectre theatre",
    "ise": "agonise apologise authorise capitalise categorise characterise civilise colonise criticise "
    "emphasise energise familiarise finalise generalise harmonise idealise legalise maximise memorise minimise "
    "mobilise modernise naturalise neutralise normalise organise personalise popularise prioritise realise recognise "
    "socialise specialise stabilise standardise sterilise summarise symbolise sympathise terrorise utilise visualise",
    "ll": "cancell counsell fuell jewell labell levell marvell modell quarrell signall travell tunnell",
}
_ENDINGS = {
    "our": ("", "s", "ed", "ing", "able", "ful", "less", "ite", "ites", "hood", "hoods", "ly", "er", "ers"),
    "ise": ("ise", "ised", "ises", "iser", "isers", "ising", "isation", "isations"),
    "ll": ("ed", "ing", "er", "ers"),
}
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
    for word in _WORDS["our"].split():
        found |= {word + ending: f"{word[:-3]}or{ending}" for ending in _ENDINGS["our"]}
    for word in _WORDS["re"].split():
        found |= {word: f"{word[:-2]}er", f"{word}s": f"{word[:-2]}ers"}
    for word in _WORDS["ise"].split():
        found |= {word[:-3] + ending: word[:-3] + ending.replace("is", "iz", 1) for ending in _ENDINGS["ise"]}
    for word in _WORDS["ll"].split():
        found |= {word + ending: word[:-1] + ending for ending in _ENDINGS["ll"]}
    return found


AMERICAN = _pairs()
