# ruff: noqa: E501, RUF001 (wide characters count twice; letters of other scripts are what this file is for)
"""Words to make captions of: one table row per language.

Grouped by script, so that a language is used only when some font on the machine covers every character of it. The
sentences made of them mean nothing; what matters is how they look.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class Language:
    """One language: its words and how they are put together."""

    name: str
    """English name, lower case."""
    script: str
    """Name of its writing system."""
    words: tuple[str, ...]
    separator: str = " "
    """What stands between words; empty where the script writes none."""
    endings: tuple[str, ...] = (".", ".", "?", "!", "...", "", "")
    """What may end a sentence."""
    commas: str = ","
    right_to_left: bool = False
    shaped: bool = False
    """True where letters join or combine, so that text must go through a shaping engine and letters have context."""
    cased: bool = False
    """True where sentences begin with a capital letter."""
    weight: float = 1.0
    """How often it is chosen, relative to the others."""

    @cached_property
    def alphabet(self) -> str:
        """Every sign that an invented word may be made of: those whose picture does not depend on a neighbour."""
        first, last = _ALPHABETS[self.script]
        return "".join(sign for sign in map(chr, range(ord(first), ord(last) + 1)) if sign.isalpha())

    @property
    def letters(self) -> str:
        """Every character of its words, sorted: what a font must have to write it."""
        text = "".join(self.words)
        return "".join(sorted({*text, *text.upper()} if self.cased else {*text}))


_ALPHABETS = {
    "latin": ("a", "z"),
    "cyrillic": ("а", "я"),
    "greek": ("α", "ω"),
    "armenian": ("ա", "ֆ"),
    "georgian": ("ა", "ჰ"),
    "arabic": ("ب", "ي"),
    "hebrew": ("א", "ת"),
    "devanagari": ("क", "ह"),
    "thai": ("ก", "ฮ"),
    "han": ("\u4e00", "\u9fa5"),
    "japanese": ("ぁ", "ヶ"),
    "hangul": ("가", "힣"),
}
"""Script to first and last of its letters in Unicode; for Japanese both kana, for Korean the syllables."""

_CJK_ENDINGS = ("。", "？", "！", "", "")

_ENGLISH = """I you we they he she it the a and but or not is was are were have had will would could should can do did
what when where why how this that there here with without before after never always maybe please listen look wait
come back tell me everything nothing something someone money time house night morning water door street train city
mother father friend doctor captain river garden letter answer question remember forget believe understand going
leave tonight tomorrow yesterday again together alone quickly quietly don't can't it's we're I'm won't really"""

_SPANISH = """yo tú él ella nosotros el la los un una y pero que no sí está son fue había será puede qué cuándo dónde
por qué cómo este aquí allí con sin antes después nunca siempre quizás señor niño mañana noche año corazón canción
también así más dinero tiempo casa agua puerta calle ciudad madre padre amigo médico capitán río jardín carta"""

_FRENCH = """je tu il elle nous vous ils le la les un une et mais où ne pas est était sont avoir être peut pourquoi
comment ici là-bas avec sans avant après jamais toujours peut-être s'il vous plaît écoute regarde attends français
garçon forêt hôtel cœur sœur père mère château déjà voilà ça très même argent temps maison nuit l'eau d'accord"""

_GERMAN = """ich du er sie es wir ihr der die das ein eine und aber oder nicht ist war sind haben hatte wird würde
könnte was wann wo warum wie hier dort mit ohne vor nach nie immer vielleicht bitte hör schau warte zurück alles
nichts jemand Geld Zeit Haus Nacht Morgen Wasser Tür Straße Zug Stadt Mutter Vater Freund Arzt Fluss Brief Größe"""

_PORTUGUESE = """eu você ele ela nós o a os um uma e mas não sim é está são foi tinha pode quê quando onde porque
como aqui ali com sem antes depois nunca sempre talvez senhor menino amanhã noite coração canção também mais pão
dinheiro tempo casa água porta rua cidade mãe pai amigo médico capitão rio jardim carta irmã avó língua"""

_POLISH = """ja ty on ona my wy oni i ale lub nie jest był są mieć będzie może co kiedy gdzie dlaczego jak tutaj tam
z bez przed po nigdy zawsze proszę słuchaj patrz czekaj wszystko nic ktoś pieniądze czas dom noc rano woda drzwi
ulica pociąg miasto matka ojciec przyjaciel lekarz rzeka ogród list żółty źródło łódź święto ćma"""

_TURKISH = """ben sen o biz siz onlar ve ama veya değil var yok ne zaman nerede neden nasıl burada orada ile önce
sonra asla her belki lütfen dinle bak bekle geri söyle şey biri para ev gece sabah su kapı sokak tren şehir anne
baba arkadaş doktor kaptan nehir bahçe mektup cevap soru hatırla unut inan anla çocuk güneş ığdır"""

_VIETNAMESE = """tôi bạn anh chị chúng ta họ và nhưng hoặc không là đã sẽ có thể gì khi nào ở đâu tại sao thế này
đây kia với trước sau bao giờ luôn xin hãy nghe nhìn đợi nói tất cả ai đó tiền thời gian nhà đêm sáng nước cửa
đường thành phố mẹ cha bác sĩ sông vườn thư nhớ quên tin hiểu ngày mai một mình"""

_RUSSIAN = """я ты он она мы вы они и но или не это был была есть будет мог что когда где почему как здесь там с без
до после никогда всегда может пожалуйста слушай смотри подожди всё ничего кто-то деньги время дом ночь утро вода
дверь улица поезд город мать отец друг врач капитан река сад письмо ответ вопрос помню забудь верь понимаю объём"""

_UKRAINIAN = """я ти він вона ми ви вони і але або не це був є буде міг що коли де чому як тут там з без до після
ніколи завжди може слухай дивись зачекай усе нічого хтось гроші час дім ніч ранок вода двері вулиця потяг місто
мати батько друг лікар річка сад лист її ґанок щастя їжа"""

_GREEK = """εγώ εσύ αυτός εμείς και αλλά ή δεν είναι ήταν έχω είχε θα μπορεί τι πότε πού γιατί πώς εδώ εκεί με χωρίς
πριν μετά ποτέ πάντα ίσως παρακαλώ άκου κοίτα περίμενε όλα τίποτα κάποιος χρήματα χρόνος σπίτι νύχτα πρωί νερό πόρτα
δρόμος τρένο πόλη μητέρα πατέρας φίλος γιατρός ποτάμι κήπος γράμμα ψωμί ξέρω βλέπω ζω"""

_ARMENIAN = """ես դու նա մենք դուք նրանք և բայց կամ չէ է էր են ունի կլինի ինչ երբ որտեղ ինչու ինչպես այստեղ այնտեղ
հետ առանց առաջ հետո երբեք միշտ գուցե լսիր նայիր սպասիր ամեն ոչինչ մեկը փող ժամանակ տուն գիշեր առավոտ ջուր դուռ
փողոց գնացք քաղաք մայր հայր ընկեր բժիշկ գետ այգի նամակ"""

_GEORGIAN = """მე შენ ის ჩვენ თქვენ ისინი და მაგრამ ან არ არის იყო აქვს იქნება რა როდის სად რატომ როგორ აქ იქ თან
გარეშე მანამდე შემდეგ არასოდეს ყოველთვის იქნებ მოუსმინე ნახე დაელოდე ყველაფერი არაფერი ვიღაც ფული დრო სახლი ღამე
დილა წყალი კარი ქუჩა მატარებელი ქალაქი დედა მამა მეგობარი ექიმი მდინარე ბაღი წერილი"""

_ARABIC = """أنا أنت هو هي نحن هم و لكن أو لا ليس كان كانت يكون سوف ماذا متى أين لماذا كيف هنا هناك مع بدون قبل بعد
أبدا دائما ربما من فضلك اسمع انظر انتظر كل شيء أحد المال الوقت البيت الليل الصباح الماء الباب الشارع القطار
المدينة أمي أبي صديق طبيب النهر الحديقة رسالة جواب سؤال تذكر"""

_PERSIAN = """من تو او ما شما آنها و اما یا نه است بود هستند دارد خواهد چه کی کجا چرا چگونه اینجا آنجا با بدون پیش
پس هرگز همیشه شاید لطفا گوش نگاه صبر همه هیچ کسی پول زمان خانه شب صبح آب در خیابان قطار شهر مادر پدر دوست پزشک
رود باغ نامه پاسخ پرسش گربه ژاله"""

_HEBREW = """אני אתה הוא היא אנחנו הם ו אבל או לא זה היה הייתה יש יהיה יכול מה מתי איפה למה איך כאן שם עם בלי לפני
אחרי אף פעם תמיד אולי בבקשה תקשיב תראה חכה הכל כלום מישהו כסף זמן בית לילה בוקר מים דלת רחוב רכבת עיר אמא אבא חבר
רופא נהר גן מכתב תשובה שאלה"""

_HINDI = """मैं तुम वह हम आप वे और लेकिन या नहीं है था थी होगा सकता क्या कब कहाँ क्यों कैसे यहाँ वहाँ साथ बिना पहले बाद कभी
हमेशा शायद कृपया सुनो देखो रुको सब कुछ कोई पैसा समय घर रात सुबह पानी दरवाज़ा सड़क गाड़ी शहर माँ पिता दोस्त डॉक्टर
नदी बाग चिट्ठी जवाब सवाल याद"""

_THAI = """ฉัน คุณ เขา เธอ เรา พวกเขา และ แต่ หรือ ไม่ คือ เป็น เคย มี จะ อาจ อะไร เมื่อไหร่ ที่ไหน ทำไม อย่างไร ที่นี่
ที่นั่น กับ ก่อน หลัง เสมอ บางที โปรด ฟัง ดู รอ ทุกอย่าง ใคร เงิน เวลา บ้าน คืน เช้า น้ำ ประตู ถนน รถไฟ เมือง แม่ พ่อ
เพื่อน หมอ แม่น้ำ สวน จดหมาย"""

_CHINESE = """我 你 他 她 我们 他们 和 但是 或者 不 是 有 会 能 什么 时候 哪里 为什么 怎么 这里 那里 跟 没有 以前 以后 从来 总是
也许 请 听 看 等 回来 告诉 一切 东西 有人 钱 时间 房子 晚上 早上 水 门 街道 火车 城市 母亲 父亲 朋友 医生 船长 河 花园 信 回答
问题 记得 忘记 相信 明白 今晚 明天 昨天 一起 真的"""

_JAPANESE = """私 あなた 彼 彼女 僕 たち は が を に で と も の から まで です でした ます ない だった 何 いつ どこ なぜ どう ここ
そこ 一緒に 前 後 いつも たぶん お願い 聞いて 見て 待って 全部 誰か お金 時間 家 夜 朝 水 ドア 通り 電車 町 母 父 友達 医者 川
庭 手紙 答え 質問 忘れる 信じる わかった 今夜 明日 昨日 本当 テレビ コーヒー"""

_KOREAN = """나는 너는 그는 그녀 우리 그들 그리고 하지만 아니면 아니 이다 있었다 있다 없다 무엇 언제 어디 왜 어떻게 여기 저기 함께
전에 후에 절대 항상 아마 제발 들어봐 봐 기다려 돌아와 말해 모든 것 누군가 돈 시간 집 밤 아침 물 문 거리 기차 도시 어머니
아버지 친구 의사 강 정원 편지 대답 질문 기억해 믿어 알겠어 오늘 내일 어제"""


def _language(name: str, script: str, words: str, **rest: object) -> Language:
    return Language(name, script, tuple(words.split()), **rest)  # type: ignore[arg-type]


LANGUAGES = (
    _language("english", "latin", _ENGLISH, cased=True, weight=4.0),
    _language("spanish", "latin", _SPANISH, cased=True),
    _language("french", "latin", _FRENCH, cased=True),
    _language("german", "latin", _GERMAN, cased=True),
    _language("portuguese", "latin", _PORTUGUESE, cased=True),
    _language("polish", "latin", _POLISH, cased=True, weight=0.7),
    _language("turkish", "latin", _TURKISH, weight=0.7),
    _language("vietnamese", "latin", _VIETNAMESE, weight=0.7),
    _language("russian", "cyrillic", _RUSSIAN, cased=True, weight=1.5),
    _language("ukrainian", "cyrillic", _UKRAINIAN, cased=True, weight=0.5),
    _language("greek", "greek", _GREEK, weight=1.3),
    _language("armenian", "armenian", _ARMENIAN, weight=0.3),
    _language("georgian", "georgian", _GEORGIAN, weight=0.3),
    _language(
        "arabic",
        "arabic",
        _ARABIC,
        right_to_left=True,
        shaped=True,
        commas="،",
        endings=(".", "؟", "!", ""),
        weight=1.5,
    ),
    _language("persian", "arabic", _PERSIAN, right_to_left=True, shaped=True, commas="،", endings=(".", "؟", "!", "")),
    _language("hebrew", "hebrew", _HEBREW, right_to_left=True, shaped=True, weight=0.8),
    _language("hindi", "devanagari", _HINDI, shaped=True, weight=1.5, endings=("।", "?", "!", "")),
    _language("thai", "thai", _THAI, shaped=True, separator="", endings=("", "!", "?"), weight=1.0),
    _language("chinese", "han", _CHINESE, separator="", commas="，", endings=_CJK_ENDINGS, weight=2.5),
    _language("japanese", "japanese", _JAPANESE, separator="", commas="、", endings=_CJK_ENDINGS, weight=1.5),
    _language("korean", "hangul", _KOREAN, weight=1.5),
)
"""All languages captions may be made of."""
