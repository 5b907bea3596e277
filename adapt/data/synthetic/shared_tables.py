"""Tables that the English-German grammars of both domains use: days, times, clothing, relatives.

`adapt.data.synthetic.bilingual` describes the format. All entries were written for this project.
"""

from adapt.data.synthetic.bilingual import table

SHARED_TABLES = {
    "day": table(
        """Monday | Montag; Tuesday | Dienstag; Wednesday | Mittwoch; Thursday | Donnerstag; Friday | Freitag;
        Saturday | Samstag; Sunday | Sonntag"""
    ),
    "month": table(
        """January | Januar; February | Februar; March | März; April | April; May | Mai; June | Juni; July | Juli;
        August | August; September | September; October | Oktober; November | November; December | Dezember"""
    ),
    "date": table("".join(f"{number} {{month}} | {number}. {{month}};" for number in range(1, 29))),
    "number": table(
        """two | zwei; three | drei; four | vier; five | fünf; six | sechs; seven | sieben; eight | acht; nine | neun;
        ten | zehn; eleven | elf; twelve | zwölf"""
    ),
    "tens": table(
        "ten | zehn; fifteen | fünfzehn; twenty | zwanzig; thirty | dreißig; forty | vierzig; fifty | fünfzig"
    ),
    "when": table(
        """today | heute; tomorrow | morgen; this morning | heute Morgen; this afternoon | heute Nachmittag;
        this evening | heute Abend; tomorrow morning | morgen früh; tomorrow afternoon | morgen Nachmittag;
        tomorrow evening | morgen Abend; on {day} | am {day}; on {day} morning | am {day}morgen;
        on {day} afternoon | am {day}nachmittag; on {day} evening | am {day}abend; next week | nächste Woche;
        at the weekend | am Wochenende; the day after tomorrow | übermorgen"""
    ),
    "past": table(
        """yesterday | gestern; last night | letzte Nacht; on {day} | am {day}; last week | letzte Woche;
        the day before yesterday | vorgestern; yesterday morning | gestern Morgen; last month | letzten Monat"""
    ),
    "clothing": table(
        """jacket | die Jacke; coat | der Mantel; scarf | der Schal; cap | die Mütze; hat | der Hut;
        jumper | der Pullover; shirt | das Hemd; waistcoat | die Weste; cardigan | die Strickjacke"""
    ),
    "relative": table(
        """mother | die Mutter; father | der Vater; sister | die Schwester; brother | der Bruder; aunt | die Tante;
        uncle | der Onkel; daughter | die Tochter; son | der Sohn; wife | die Frau; husband | der Mann"""
    ),
}
