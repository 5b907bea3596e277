"""The domain "clinic": English-German messages to patients, who are addressed as Sie.

`adapt.data.synthetic.bilingual` describes the format of templates and tables. Some English words are translated
differently in `adapt.data.synthetic.weather_grammar`: here pressure is Blutdruck, shower is Dusche, cold is Erkältung,
temperature is Fieber, heavy is schwer and light is Licht. All sentences were written for this project.
"""

from adapt.data.synthetic.bilingual import BilingualGrammar, table, templates
from adapt.data.synthetic.shared_tables import SHARED_TABLES

_MORNING = table("".join(f"{hour} am | {hour} Uhr; {hour}:30 am | {hour}:30 Uhr;" for hour in range(8, 12)))
_AFTERNOON = table("".join(f"{hour} pm | {hour + 12} Uhr; {hour}:15 pm | {hour + 12}:15 Uhr;" for hour in range(1, 6)))
_ONCE = table(
    """take a shower | take a shower | nehmen Sie | eine Dusche | eine Dusche nehmen;
    switch off your phone | switch off your phone | schalten Sie | Ihr Handy aus | Ihr Handy ausschalten;
    wash your hands | wash your hands | waschen Sie | Ihre Hände | Ihre Hände waschen;
    take off your jewellery | take off your jewellery | legen Sie | Ihren Schmuck ab | Ihren Schmuck ablegen;
    leave the light on | leave the light on | lassen Sie | das Licht an | das Licht anlassen;
    drink a glass of water | drink a glass of water | trinken Sie | ein Glas Wasser | ein Glas Wasser trinken""",
    "en should sie rest inf",
)
_LASTING = table(
    """do not eat anything | not eat anything | essen Sie | nichts | nichts essen;
    drink plenty of water | drink plenty of water | trinken Sie | viel Wasser | viel Wasser trinken;
    do not smoke | not smoke | rauchen Sie | nicht | nicht rauchen;
    do not drink alcohol | not drink alcohol | trinken Sie | keinen Alkohol | keinen Alkohol trinken;
    avoid heavy meals | avoid heavy meals | vermeiden Sie | schwere Mahlzeiten | schwere Mahlzeiten vermeiden;
    eat only light meals | eat only light meals | essen Sie | nur leichte Mahlzeiten | nur leichte Mahlzeiten essen;
    do not drive | not drive | fahren Sie | kein Auto | kein Auto fahren;
    wear loose clothes | wear loose clothes | tragen Sie | lockere Kleidung | lockere Kleidung tragen;
    keep calm | keep calm | bleiben Sie | ruhig | ruhig bleiben;
    do not do any sport | not do any sport | treiben Sie | keinen Sport | keinen Sport treiben;
    stay in bed | stay in bed | bleiben Sie | im Bett | im Bett bleiben""",
    "en should sie rest inf",
)

CLINIC = BilingualGrammar(
    templates=templates(
        """
        Your {exam} is on {day} at {time}.
        | {Ihr exam} ist am {day} um {time}.
        Dear {dear} {surname}, your {exam} is on {date} at {time}.
        | {dear} {surname}, {Ihr exam} ist am {date} um {time}.
        Dear {dear} {surname}, please {arrange} your {exam}.
        | {dear} {surname}, bitte {arrange} Sie {Ihren exam} {arrange.off}.
        {hello}, {title} {surname}, how are you feeling today?
        | {hello}, {title} {surname}, wie fühlen Sie sich heute?
        Are you feeling {compared} than {past}, {title} {surname}?
        | Fühlen Sie sich {compared} als {past}, {title} {surname}?
        Your {exam} has been moved to {day} at {time}.
        | {Ihr exam} wurde auf {day} um {time} verschoben.
        Your {exam} on {date} has been {arranged}.
        | {Ihr exam} am {date} wurde {arranged}.
        Please {arrange} your {exam} by {day}.
        | Bitte {arrange} Sie {Ihren exam} bis {day} {arrange.off}.
        Would you like an appointment on {day} at {time}?
        | Möchten Sie am {day} um {time} einen Termin?
        We have a free appointment on {date} at {time}.
        | Wir haben am {date} um {time} einen Termin frei.
        Is {day} at {time} convenient for you?
        | Passt es Ihnen am {day} um {time}?
        Please arrive {tens} minutes before your {exam}.
        | Bitte kommen Sie {tens} Minuten vor {Ihrem exam}.
        Your {exam} takes about {tens} minutes.
        | {Ihr exam} dauert etwa {tens} Minuten.
        You need a {document} for your {exam}.
        | Sie brauchen für {Ihren exam} {einen document}.
        Please bring your {document} to the {exam}.
        | Bitte bringen Sie {Ihren document} {zum exam} mit.
        Have you brought your {document}, {title} {surname}?
        | Haben Sie {Ihren document} mitgebracht, {title} {surname}?
        Please {paperwork} the {form} by {day}.
        | Bitte {paperwork} Sie {den form} bis {day} {paperwork.off}.
        Please show your {document} at the {desk}.
        | Bitte zeigen Sie {Ihren document} {am desk} vor.
        You can collect your {document} at the {desk} from {time}.
        | Sie können {Ihren document} ab {time} {am desk} abholen.
        Your {document} is at the {desk}.
        | {Ihr document} liegt {am desk}.
        Please wait in the {room} until {time}.
        | Bitte warten Sie bis {time} {im room}.
        Please go to the {room} for your {exam}.
        | Bitte gehen Sie für {Ihren exam} {ins room}.
        The {room} is on the {floor} floor, on the {side} side.
        | {der room} ist im {floor} Stock auf der {side} Seite.
        The {place} is {open} on {day}.
        | {der place} ist am {day} {open}.
        The {place} {opens} at {time}.
        | {der place} {opens} um {time}.
        Please call the {place} between {early} and {late}.
        | Bitte rufen Sie zwischen {early} und {late} {im place} an.
        The {staff} will see you in the {room} at {time}.
        | {der staff} empfängt Sie um {time} {im room}.
        Please ask the {staff} about your {document}.
        | Bitte fragen Sie {den staff} nach {Ihrem document}.
        {doctor} would like to {treat} your {body}.
        | {doctor} möchte {Ihren body} {treat}.
        Your {body} must be {treat.done} {when}.
        | {Ihr body} muss {when} {treat.getan} werden.
        The {staff} has {treat.done} your {body}.
        | {der staff} hat {Ihren body} {treat.getan}.
        Does your {body} hurt {hurting}?
        | Tut Ihnen {der body} {hurting} weh?
        How long has your {body} been hurting {hurting}?
        | Wie lange tut Ihnen {der body} schon {hurting} weh?
        Do you feel a {pain_adj} {pain} in your {body}?
        | Spüren Sie {einen pain_adj pain} {im body}?
        {title} {surname} feels a {pain_adj} {pain} {hurting}.
        | {title} {surname} spürt {hurting} {einen pain_adj pain}.
        The {pain_adj} {pain} in your {body} will go away.
        | {der pain_adj pain} {im body} wird vergehen.
        Have you had {complaint} since {day}?
        | Haben Sie seit {day} {complaint}?
        How long have you had {complaint}, {title} {surname}?
        | Wie lange haben Sie schon {complaint}, {title} {surname}?
        If you get {complaint}, please call the {place}.
        | Wenn Sie {complaint} bekommen, rufen Sie bitte {im place} an.
        In case of {complaint}, take {number} {dose+} {often}.
        | Nehmen Sie bei {complaint.dem} {often} {number} {dose+}.
        Please come to the {place} {when} if you have {complaint}.
        | Bitte kommen Sie {when} {ins place}, wenn Sie {complaint} haben.
        {title} {surname} has had {complaint} since {day}.
        | {title} {surname} hat seit {day} {complaint}.
        Your pressure is {level} {hurting}.
        | Ihr Blutdruck ist {hurting} {level}.
        You had a temperature of {fever} degrees {past}.
        | Sie hatten {past} {fever} Grad Fieber.
        Please measure your {vital} {often}.
        | Bitte messen Sie {often} {Ihren vital}.
        The {staff} will check your {vital} {when}.
        | {der staff} kontrolliert {when} {Ihren vital}.
        Your {vital} was {level} {past}.
        | {Ihr vital} war {past} {level}.
        Take {number} {dose+} {often}.
        | Nehmen Sie {often} {number} {dose+}.
        Take the {drug_adj} {dose+} {often} for {number} days.
        | Nehmen Sie {number} Tage lang {often} die {-en drug_adj dose+}.
        {doctor} has prescribed you a {drug_adj} {drug}.
        | {doctor} hat Ihnen {einen drug_adj drug} verschrieben.
        The {drug_adj} {drug} helps against {complaint}.
        | {der drug_adj drug} hilft gegen {complaint}.
        Are you using the {drug} {often}?
        | Verwenden Sie {den drug} {often}?
        Please do not use the {drug} if you have {complaint}.
        | Bitte verwenden Sie {den drug} nicht bei {complaint.dem}.
        Apply the {ointment} to your {body} {often}.
        | Tragen Sie {den ointment} {often} auf {Ihren body} auf.
        Please {care} your {body} for {number} {span+}.
        | Bitte {care} Sie {Ihren body} {number} {span+} lang {care.off}.
        Put a new patch on your {body} {often}.
        | Kleben Sie {often} ein neues Pflaster auf {Ihren body}.
        Are you allergic to {allergen}, {title} {surname}?
        | Sind Sie gegen {allergen} allergisch, {title} {surname}?
        Have you been vaccinated against {disease}, {title} {surname}?
        | Sind Sie gegen {disease} geimpft, {title} {surname}?
        You will get the vaccination against {disease} on {date}.
        | Die Impfung gegen {disease} bekommen Sie am {date}.
        Please take off your {clothing} and lie down on the {couch}.
        | Bitte ziehen Sie {Ihren clothing} aus und legen Sie sich auf {den couch}.
        You can leave your {clothing} in the {room}.
        | Sie können {Ihren clothing} {im room} lassen.
        Please {rule} before the {exam}.
        | Bitte {rule.sie} vor {dem exam} {rule.rest}.
        Please {lasting} for {number} {span+} after the {exam}.
        | Bitte {lasting.sie} nach {dem exam} {number} {span+} lang {lasting.rest}.
        You should {rule.should} before your {exam}.
        | Sie sollten vor {Ihrem exam} {rule.inf}.
        {doctor} says that you should {rule.should}.
        | {doctor} sagt, dass Sie {rule.inf} sollen.
        You may {allowed} {when}.
        | Sie dürfen {when} {allowed}.
        In {number} {span+} you may {allowed}.
        | In {number} {span++} dürfen Sie {allowed}.
        After the {exam} you may not yet {allowed}.
        | Nach {dem exam} dürfen Sie noch nicht {allowed}.
        Your {result} are {ready}, {title} {surname}.
        | Ihre {result} sind {ready}, {title} {surname}.
        We will call you {when} about your {result}.
        | Wir rufen Sie {when} wegen Ihrer {result} an.
        You will need a {aid} for {number} {span+}.
        | Sie brauchen {number} {span+} lang {einen aid}.
        Do you need a {aid} {when}?
        | Brauchen Sie {when} {einen aid}?
        Your {relative} can {visit} you {when}.
        | {Ihr relative} kann Sie {when} {visit}.
        Does your {relative} have {complaint} too?
        | Hat {Ihr relative} auch {complaint}?
        The operation on your {body} will take {number} hours.
        | Die Operation {am body} dauert {number} Stunden.
        """
    ),
    tables=SHARED_TABLES
    | {
        "dear": table("Mrs | sehr geehrte Frau; Mr | sehr geehrter Herr"),
        "title": table("Mrs | Frau; Mr | Herr"),
        "hello": table("Good morning | guten Morgen; Good afternoon | guten Tag; Good evening | guten Abend"),
        "surname": table(
            """Weber | Weber; Fischer | Fischer; Becker | Becker; Wagner | Wagner; Hoffmann | Hoffmann; Koch | Koch;
            Richter | Richter; Klein | Klein; Wolf | Wolf; Schneider | Schneider; Krause | Krause; Lange | Lange;
            Vogel | Vogel; Keller | Keller"""
        ),
        "doctor": table("Dr {surname} | Dr. {surname}; Professor {surname} | Professor {surname}"),
        "early": _MORNING,
        "late": _AFTERNOON,
        "time": _MORNING + _AFTERNOON,
        "exam": table(
            """appointment | der Termin; check-up | die Kontrolle; X-ray | die Röntgenaufnahme;
            blood test | der Bluttest; vaccination | die Impfung; operation | die Operation; scan | der Scan;
            consultation | das Beratungsgespräch; ultrasound | die Ultraschalluntersuchung; hearing test | der Hörtest;
            eye test | der Sehtest; treatment | die Behandlung; follow-up | die Nachuntersuchung;
            examination | die Untersuchung; massage | die Massage; allergy test | der Allergietest;
            first visit | der Erstbesuch; anaesthetic | die Narkose"""
        ),
        "arrange": table(
            """confirm | bestätigen |; cancel | sagen | ab; postpone | verschieben |; book | buchen |;
            pay for | bezahlen |""",
            "en de off",
        ),
        "arranged": table("cancelled | abgesagt; confirmed | bestätigt; postponed | verschoben; booked | gebucht"),
        "document": table(
            """referral | die Überweisung; prescription | das Rezept; insurance card | die Versicherungskarte;
            form | das Formular; vaccination record | der Impfpass; passport | der Reisepass; letter | der Brief;
            doctor's report | der Arztbericht; certificate | die Bescheinigung; medication plan | der Medikamentenplan;
            sick note | die Krankschreibung; bill | die Rechnung; file | die Akte; identity card | der Ausweis"""
        ),
        "form": table(
            """form | das Formular; questionnaire | der Fragebogen; consent form | die Einwilligungserklärung;
            registration form | der Anmeldebogen; application | der Antrag; contract | der Vertrag"""
        ),
        "paperwork": table(
            """sign | unterschreiben |; fill in | füllen | aus; hand in | geben | ab; send back | schicken | zurück;
            read through | lesen | durch; check | prüfen |; print out | drucken | aus""",
            "en de off",
        ),
        "desk": table(
            """front desk | der Empfang; counter | der Schalter; entrance | der Eingang; registration | die Anmeldung;
            till | die Kasse; information desk | die Information; gate | die Pforte"""
        ),
        "room": table(
            """waiting room | das Wartezimmer; treatment room | das Behandlungszimmer; corridor | der Flur;
            entrance hall | die Eingangshalle; laboratory | das Labor; cloakroom | die Garderobe;
            day clinic | die Tagesklinik; changing room | die Umkleide; X-ray room | der Röntgenraum;
            cafeteria | die Cafeteria; gym | der Gymnastikraum; surgery | das Sprechzimmer;
            operating theatre | der Operationssaal; recovery room | der Aufwachraum;
            emergency department | die Notaufnahme"""
        ),
        "floor": table("first | ersten; second | zweiten; third | dritten; fourth | vierten; fifth | fünften"),
        "side": table("left | linken; right | rechten"),
        "place": table(
            """practice | die Praxis; clinic | die Klinik; hospital | das Krankenhaus; pharmacy | die Apotheke;
            laboratory | das Labor; outpatient department | die Ambulanz; health centre | das Gesundheitszentrum;
            day clinic | die Tagesklinik; emergency department | die Notaufnahme; eye clinic | die Augenklinik"""
        ),
        "open": table("open | geöffnet; closed | geschlossen"),
        "opens": table("opens | öffnet; closes | schließt"),
        "staff": table(
            """doctor | die Ärztin; nurse | die Pflegerin; dentist | der Zahnarzt; surgeon | die Chirurgin;
            specialist | der Facharzt; midwife | die Hebamme; eye doctor | der Augenarzt; pharmacist | die Apothekerin;
            paediatrician | die Kinderärztin; therapist | die Therapeutin; assistant | die Assistentin;
            consultant | der Oberarzt; carer | der Pfleger; masseur | der Masseur"""
        ),
        "body": table(
            """knee | das Knie; shoulder | die Schulter; arm | der Arm; elbow | der Ellbogen; wrist | das Handgelenk;
            ankle | das Fußgelenk; hip | die Hüfte; back | der Rücken; neck | der Nacken; hand | die Hand;
            foot | der Fuß; finger | der Finger; toe | die Zehe; ear | das Ohr; leg | das Bein; stomach | der Bauch;
            chest | der Brustkorb; thigh | der Oberschenkel; calf | die Wade; heel | die Ferse; jaw | der Kiefer;
            forehead | die Stirn; thumb | der Daumen"""
        ),
        "treat": table(
            """examine | examined | untersuchen | untersucht; treat | treated | behandeln | behandelt;
            X-ray | X-rayed | röntgen | geröntgt; operate on | operated on | operieren | operiert;
            check | checked | kontrollieren | kontrolliert; bandage | bandaged | verbinden | verbunden;
            massage | massaged | massieren | massiert; cool | cooled | kühlen | gekühlt;
            numb | numbed | betäuben | betäubt""",
            "en done de getan",
        ),
        "hurting": table(
            """at night | nachts; in the morning | morgens; in the evening | abends; when walking | beim Gehen;
            when sitting | beim Sitzen; when lying down | beim Liegen; during sport | beim Sport;
            when lifting | beim Heben; when climbing stairs | beim Treppensteigen; in cold weather | bei kaltem Wetter;
            at rest | in Ruhe"""
        ),
        "pain": table(
            """pain | der Schmerz; tingling | das Kribbeln; burning | das Brennen; cramp | der Krampf;
            swelling | die Schwellung; throbbing | das Pochen; tension | die Verspannung; itch | der Juckreiz"""
        ),
        "pain_adj": table(
            """mild | leicht; severe | stark; sudden | plötzlich; constant | ständig; new | neu; slight | gering;
            unusual | ungewöhnlich; unpleasant | unangenehm; painful | schmerzhaft; heavy | schwer"""
        ),
        "complaint": table(
            """a cough | Husten | Husten; a cold | eine Erkältung | einer Erkältung; a temperature | Fieber | Fieber;
            a rash | einen Ausschlag | einem Ausschlag; a headache | Kopfschmerzen | Kopfschmerzen;
            a sore throat | Halsschmerzen | Halsschmerzen; back pain | Rückenschmerzen | Rückenschmerzen;
            stomach ache | Bauchschmerzen | Bauchschmerzen; toothache | Zahnschmerzen | Zahnschmerzen;
            chills | Schüttelfrost | Schüttelfrost; diarrhoea | Durchfall | Durchfall;
            heartburn | Sodbrennen | Sodbrennen; a runny nose | Schnupfen | Schnupfen;
            high pressure | hohen Blutdruck | hohem Blutdruck; dizzy spells | Schwindelanfälle | Schwindelanfällen;
            cramps | Krämpfe | Krämpfen; an allergy | eine Allergie | einer Allergie; nausea | Übelkeit | Übelkeit;
            asthma | Asthma | Asthma; an infection | eine Infektion | einer Infektion;
            a light cough | leichten Husten | leichtem Husten; shortness of breath | Atemnot | Atemnot;
            the flu | die Grippe | der Grippe""",
            "en de dem",
        ),
        "compared": table(
            """better | besser; worse | schlechter; weaker | schwächer; stronger | kräftiger; fitter | fitter;
            calmer | ruhiger"""
        ),
        "level": table(
            """high | hoch; low | niedrig; normal | normal; too high | zu hoch; stable | stabil; too low | zu niedrig;
            a little high | etwas hoch; very low | sehr niedrig"""
        ),
        "fever": table("".join(f"{degrees} | {degrees}; {degrees}.5 | {degrees},5;" for degrees in range(38, 41))),
        "vital": table(
            """pressure | der Blutdruck; pulse | der Puls; temperature | die Körpertemperatur; weight | das Gewicht;
            blood sugar | der Blutzucker; heart rate | die Herzfrequenz; oxygen level | der Sauerstoffwert"""
        ),
        "often": table(
            """every morning | jeden Morgen; every evening | jeden Abend; twice a day | zweimal täglich;
            three times a day | dreimal täglich; every {number} hours | alle {number} Stunden; daily | täglich;
            before meals | vor dem Essen; after meals | nach dem Essen; before going to bed | vor dem Schlafengehen;
            once a week | einmal pro Woche; after breakfast | nach dem Frühstück; before lunch | vor dem Mittagessen;
            after a shower | nach dem Duschen; every {day} | jeden {day}"""
        ),
        "dose": table(
            """tablet/tablets | die Tablette/Tabletten; capsule/capsules | die Kapsel/Kapseln;
            drop/drops | der Tropfen/Tropfen; spoonful/spoonfuls | der Löffel/Löffel;
            sachet/sachets | der Beutel/Beutel; vitamin/vitamins | das Vitamin/Vitamine;
            lozenge/lozenges | die Lutschtablette/Lutschtabletten"""
        ),
        "drug": table(
            """painkiller | das Schmerzmittel; antibiotic | das Antibiotikum; ointment | die Salbe; spray | das Spray;
            cough syrup | der Hustensaft; powder | das Pulver; sedative | das Beruhigungsmittel;
            sleeping pill | die Schlaftablette; remedy | das Heilmittel; iron preparation | das Eisenpräparat;
            tincture | die Tinktur"""
        ),
        "drug_adj": table(
            """new | neu; strong | stark; mild | mild; herbal | pflanzlich; white | weiß; red | rot; bitter | bitter;
            ordinary | gewöhnlich; cheap | günstig; light | leicht"""
        ),
        "ointment": table("ointment | die Salbe; cream | die Creme; gel | das Gel; lotion | die Lotion; oil | das Öl"),
        "care": table(
            """cool | kühlen |; rest | schonen |; move | bewegen |; stretch | dehnen |; warm | wärmen |;
            protect | schützen |; raise | lagern | hoch; immobilise | stellen | ruhig""",
            "en de off",
        ),
        "span": table("day/days | der Tag/Tage; week/weeks | die Woche/Wochen; hour/hours | die Stunde/Stunden"),
        "allergen": table(
            """penicillin | Penicillin; latex | Latex; pollen | Pollen; nuts | Nüsse; iodine | Jod; aspirin | Aspirin;
            dust | Staub; plasters | Pflaster; bee stings | Bienenstiche; milk | Milch; cats | Katzen;
            mould | Schimmel"""
        ),
        "disease": table(
            """tetanus | Tetanus; measles | Masern; flu | Grippe; rabies | Tollwut; mumps | Mumps; polio | Polio;
            chickenpox | Windpocken; whooping cough | Keuchhusten; rubella | Röteln; hepatitis | Hepatitis;
            shingles | Gürtelrose; diphtheria | Diphtherie"""
        ),
        "couch": table("couch | die Liege; bed | das Bett; mat | die Matte; stretcher | die Trage"),
        "rule": _ONCE + _LASTING,
        "lasting": _LASTING,
        "allowed": table(
            """go home | nach Hause gehen; get up | aufstehen; eat again | wieder essen; work again | wieder arbeiten;
            drive again | wieder Auto fahren; do sport again | wieder Sport treiben; shower again | wieder duschen;
            walk without crutches | ohne Krücken gehen; take a bath | baden; travel | verreisen;
            swim | schwimmen"""
        ),
        "result": table(
            """blood results | Blutwerte; test results | Testergebnisse; lab results | Laborwerte;
            X-ray images | Röntgenbilder; documents | Unterlagen; findings | Befunde"""
        ),
        "ready": table(
            """ready | fertig; complete | vollständig; here | da; not here yet | noch nicht da; normal | unauffällig;
            in the file | in der Akte; good | gut"""
        ),
        "aid": table(
            """wheelchair | der Rollstuhl; bandage | der Verband; splint | die Schiene; cushion | das Kissen;
            support | die Stütze; plaster cast | der Gips; walking frame | der Rollator;
            special shoe | der Spezialschuh"""
        ),
        "visit": table(
            """visit | besuchen; accompany | begleiten; collect | abholen; call | anrufen; help | unterstützen"""
        ),
    },
)
